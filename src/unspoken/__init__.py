"""Language models that reason with the tokens they have not said yet."""
