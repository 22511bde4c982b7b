"""Policy evidence: what a release says about consent, origin and balance."""
