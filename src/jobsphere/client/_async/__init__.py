"""The client for asyncio; the other one is made from it."""
