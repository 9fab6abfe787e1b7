"""The words of flowq: types, errors, configuration, results, processors, flows, graphs and the context."""
