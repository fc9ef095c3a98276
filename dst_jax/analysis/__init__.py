"""What explains a result: FLOPs, and analyses of trained models.

Import the files by name; nothing that training needs lives here.
"""
