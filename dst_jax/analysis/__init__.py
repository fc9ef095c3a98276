"""What explains a result: FLOPs, spectra, where the weights are, and where a network looks.

Import the files by name; nothing that training needs lives here. `analyze` does all of it for a
run, the other files take any weights, masks or predict function.
"""
