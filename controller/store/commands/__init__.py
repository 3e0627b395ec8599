"""What changes entities: plain values in, frozen records out, an audit entry in the same transaction.

Every function takes the session of its caller, which commits. Nothing here knows of HTTP.
"""
