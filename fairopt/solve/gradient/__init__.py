"""The gradient of the projection: from its optimality conditions, or the solver's own."""
