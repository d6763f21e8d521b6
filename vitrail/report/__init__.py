"""Reports: read the folders that training and evaluation write, and make one self-contained HTML page of each."""
