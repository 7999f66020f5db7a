"""HTTP/1.1 as the gateway and the embedded AWS serve it: connections with limits, whose input is read in turns."""
