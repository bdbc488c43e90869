"""Shallow methods: projections of fixed features, fitted in one call or drawn."""
