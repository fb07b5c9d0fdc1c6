"""How often a drift verdict is wrong: alarms on data that has not changed, and silence on data that has."""
