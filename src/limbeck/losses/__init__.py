"""Terms of the players' losses: `term(step) -> scalar`, summed with weights by `losses.weighted`."""
