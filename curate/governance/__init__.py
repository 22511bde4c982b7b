"""Governance: erasure on request, and what a release says about consent, origin and balance."""
