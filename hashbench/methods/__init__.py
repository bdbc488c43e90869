"""Methods: the contract, hash centers, and CRH."""
