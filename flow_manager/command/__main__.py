"""``python -P -m flow_manager.command``: the command where its script is not at hand."""

from flow_manager.command import main

if __name__ == "__main__":
    main()
