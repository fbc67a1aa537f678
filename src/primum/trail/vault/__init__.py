"""The vault: payloads encrypted under one key a patient, so that destroying the key is erasure."""
