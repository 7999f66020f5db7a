"""How a process runs: settings, logs, server, channels, interceptors, AWS clients. It knows no business."""
