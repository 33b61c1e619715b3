"""Reaching machines over SSH and preparing them."""
