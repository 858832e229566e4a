"""Large files by Xet, as far as uploads need it: chunks come in xorbs, and shards say how files are made of them.

Nothing is ever read back by it: clients download files as files.
"""
