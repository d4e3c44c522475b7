"""Tests on a real node with running pods: `make test-node`. Root, and several minutes of building the first time."""
