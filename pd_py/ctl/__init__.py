"""`pd-py ctl`: asking and operating a cluster from the command line, over the HTTP API. Spelling follows the public pd-ctl."""
