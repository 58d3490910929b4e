"""The alerts and what of them can be chosen.

A person writes an alert once, in rules/, with `${Alert.parameter}` where a number may be another;
parameters.toml has the numbers. What follows from an alert's name, its links, is added when the
rules are rendered. grafana.json, which is generated, says where the dashboards lead to and show
these numbers.
"""
