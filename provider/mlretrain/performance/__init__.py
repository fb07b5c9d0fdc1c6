"""How good the champion's answers were: on labels that arrive late, or estimated until they do."""
