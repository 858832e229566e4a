"""The server of a hub: a database, a store of files, the Hugging Face Hub protocol, a REST API and a web site."""
