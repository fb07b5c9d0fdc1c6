"""Images tagged like the published ones, for engines that reach no registry; see the README beside this."""
