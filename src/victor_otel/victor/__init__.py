"""Everything that knows Victor: its areas and verticals, classes, words and versions."""
