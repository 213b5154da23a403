"""Tests of the documents half of the console and the HTTP API."""
