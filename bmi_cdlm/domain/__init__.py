"""The domain: cells, reaches, links and gauges, and the order in which rivers are routed."""
