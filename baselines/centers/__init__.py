"""Methods with fixed or learned hash centers: every class has one, and its images are pulled to it."""
