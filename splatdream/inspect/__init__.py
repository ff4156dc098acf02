"""What an asset is worth: comparison with the truth, and judges that were never optimised against."""
