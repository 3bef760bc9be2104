# One door to what is done often. Each recipe is also a plain command; `just` itself is not needed for anything.

# Everything that must hold before a change is taken, or only some sections: just test clippy tests
test *sections:
    scripts/test {{sections}}

# Beside the floor, in one interleaved run: just bench transport --pin same
bench *args:
    cargo run --release --package shellkeep-benches -- {{args}}

# Seeded histories of faults through the cores of keeper and daemon: just sim --seeds 100000
sim *args:
    cargo run --release --package torture -- sim {{args}}

# Real processes killed, stopped, robbed of socket and log, in a private home: just torture kill --who both --n 1000
torture *args:
    cargo run --release --package torture -- {{args}}

# A daemon killed under a running shell, in a private home: nothing of yours is touched.
demo *args:
    cargo run --release -- demo {{args}}

# Lays all code out.
fmt:
    cargo fmt --all

# The packages of packages/ and an index of them: just packages ~/shop
packages *dir:
    scripts/packages {{dir}}
