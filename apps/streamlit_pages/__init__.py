"""The pages of the Streamlit app, and what they share. Each page is a script of its own."""
