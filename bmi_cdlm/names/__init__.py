"""What things are called: variables, parameters, time steps, errors."""
