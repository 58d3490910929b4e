"""What tests share: programs and servers they run, Victor's parts as they need them, and how
numbers and spans are read.
"""
