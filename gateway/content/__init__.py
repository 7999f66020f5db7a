"""Contents to be sent: assembly from blocks, ranges, archives, and the remaining downloads of a link."""
