"""What explains a result: FLOPs, and analyses of trained models. Nothing in training needs this."""
