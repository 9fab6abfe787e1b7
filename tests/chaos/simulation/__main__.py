from tests.chaos.simulation.command import main

main()
