"""Findings for people: an HTML file in French or English, the files of an audit, a terminal table."""
