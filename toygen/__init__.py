"""Learns one distribution from another."""
