"""What is asked, and when: settings, arrivals, prompts. Pure: a seed repeats a load to the last byte."""
