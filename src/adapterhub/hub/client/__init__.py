"""The client of hubs: who one is there, what is there, bringing adapters here and sending them."""
