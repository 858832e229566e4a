"""What files of an adapter hold, told without running or trusting anything in them: numbers and JSON alone."""
