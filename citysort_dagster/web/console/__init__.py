"""The pages of the console: one router for each subject."""
