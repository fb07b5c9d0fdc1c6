"""Commands that ask a live system, or have it act: history, rollback, verify, card."""
