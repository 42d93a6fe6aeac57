from oneshot.cli.main import main

main(["bench"])
