"""Gates: may a candidate be promoted, may a canary advance. Pure decisions on small evidence."""
