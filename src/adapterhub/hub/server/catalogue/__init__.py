"""What adapters are found by: tasks, languages, data sets, base models, scores, words."""
