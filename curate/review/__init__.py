"""FiftyOne as the view for people, and the ledger of what they decided."""
