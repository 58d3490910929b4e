"""What writes and reads the files that are generated or checked: dashboards, rules and pages.

    python -m tools.docs --check           # or --write: tables of the documentation
    python -m tools.dashboards --check     # or --write: Grafana's dashboards
    python -m tools.kubernetes --check     # or --write: rules and configuration for a cluster
    python -m tools.performance            # docs/performance.md, after `nox -s benchmarks`
    python -m tools.reliability            # docs/reliability.md, after `nox -s reliability`
    python -m tools.radar                  # what moved with the newest Victor

Tests import it, and it imports no tests. The programs in scripts/ stand alone.
"""
