"""One module a format, reached through the table in `deepstruct.formats`, never imported by name elsewhere.

To add a format:
1. write a module here with ``read(path, options, losses) -> Model`` or
   ``write(model, path, targets, options) -> list[Loss]``, or both (`deepstruct.formats.Converter`);
   it imports its framework at its own top and no other format's converter, but may share a module with it that is no
   format, as the graph files share `graph_files`;
2. add its row to `deepstruct.formats.BUILT_IN`;
3. run the tests: the conformance suite covers every row of the table.
A package of its own does the same, offers its row as an entry point of the group ``deepstruct.formats``, and runs that
suite, `deepstruct.testing.ConverterSuite`, in its own tests (`docs/testing.md`, `examples/plugin`).
"""
