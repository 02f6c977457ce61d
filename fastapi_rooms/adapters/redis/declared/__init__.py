"""What workers have declared of rooms, as emitters and the command line learn it from Redis.

form       how it is written and read (pure)
known      what somebody who reads it now and then goes by (pure)
"""
