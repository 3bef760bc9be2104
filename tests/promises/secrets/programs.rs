//! Programs that ask for a secret, and how they are made to.

/// A program that asks.
#[derive(Debug)]
pub(super) struct Asks {
    /// Name of the session.
    pub(super) name: &'static str,
    /// Programs without which it is passed over.
    pub(super) needs: &'static [&'static str],
    /// A line of shell; `$T` is a directory of the world.
    pub(super) script: &'static str,
    /// What it says, once for each time that it asks.
    pub(super) prompts: &'static [&'static str],
}

const fn asks(
    name: &'static str,
    needs: &'static [&'static str],
    script: &'static str,
    prompts: &'static [&'static str],
) -> Asks {
    Asks { name, needs, script, prompts }
}

/// On every machine that runs this suite.
pub(super) const CORE: &[Asks] = &[
    asks("sh", &[], "stty -echo; printf 'pw? '; read x", &["pw? "]),
    asks("bash", &["bash"], "bash -c 'read -rs -p \"pw? \" x'", &["pw? "]),
    asks("zsh", &["zsh"], "zsh -fc 'read -rs \"x?pw? \"'", &["pw? "]),
    asks(
        "su",
        &["su", "setpriv"],
        "setpriv --reuid=65534 --regid=65534 --clear-groups su root -c true",
        &["assword: "],
    ),
    asks(
        "newgrp",
        &["newgrp", "setpriv"],
        "setpriv --reuid=65534 --regid=65534 --clear-groups newgrp root",
        &["assword: "],
    ),
    asks("chfn", &["chfn", "setpriv"], "setpriv --reuid=65534 --regid=65534 --clear-groups chfn -h 1", &["assword: "]),
];

/// Where they are.
pub(super) const MORE: &[Asks] = &[
    asks(
        "sudo",
        &["sudo", "setpriv"],
        "setpriv --reuid=65534 --regid=65534 --clear-groups sudo true",
        &["assword for"],
    ),
    asks("python", &["python3"], "/usr/bin/python3 -c 'import getpass; getpass.getpass(\"pw? \")'", &["pw? "]),
    asks("ssh", &["ssh", "sshd"], "$(cat $T/ssh) true", &["assword:"]),
    asks("keygen", &["ssh-keygen"], "ssh-keygen -q -t ed25519 -f key", &["passphrase", "same passphrase again"]),
    asks(
        "keyread",
        &["ssh-keygen"],
        "ssh-keygen -q -t ed25519 -N other-word -f key; ssh-keygen -y -f key",
        &["Enter passphrase"],
    ),
    asks(
        "gpg",
        &["gpg"],
        "mkdir -m 700 home; echo x >f; gpg --homedir $PWD/home --pinentry-mode loopback -o out -c f",
        &["Enter passphrase:"],
    ),
    asks(
        "opensslenc",
        &["openssl"],
        "openssl enc -aes-256-cbc -pbkdf2 -in /dev/null -out out",
        &["password:", "password:"],
    ),
    asks("opensslkey", &["openssl"], "openssl genpkey -algorithm ed25519 -aes256 -out key", &["pass phrase:"]),
    asks("mariadb", &["mariadb"], "mariadb --host 127.0.0.1 --port 9 -u x -p", &["Enter password: "]),
    asks("psql", &["psql"], "psql -h 127.0.0.1 -p 9 -U x -W", &["Password: "]),
    asks("zip", &["zip"], "echo x >f; zip -e out.zip f", &["Enter password: ", "Verify password: "]),
    asks("7z", &["7z"], "echo x >f; 7z a -p out.7z f", &["password (will not be echoed)"]),
    asks("htpasswd", &["htpasswd"], "htpasswd -c -B f user", &["New password: ", "Re-type new password: "]),
    asks(
        "vault",
        &["ansible-vault"],
        "echo x >f; ansible-vault encrypt f",
        &["New Vault password: ", "Confirm New Vault password: "],
    ),
    asks(
        "git",
        &["git"],
        "printf 'protocol=https\\nhost=example.invalid\\nusername=u\\n\\n' >f; git -c credential.helper= credential fill <f >/dev/null",
        &["Password for"],
    ),
    asks("curl", &["curl"], "curl -s -u user http://127.0.0.1:9/", &["Enter host password"]),
    asks("smbclient", &["smbclient"], "smbclient -U u //127.0.0.1/x -p 9", &["Password for"]),
    asks("restic", &["restic"], "restic init -r repository", &["enter password for new repository: ", "again: "]),
    asks(
        "cryptsetup",
        &["cryptsetup"],
        "truncate -s 20M f; /usr/sbin/cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 f",
        &["Enter passphrase for"],
    ),
    asks("age", &["age"], "echo x | age -p -o out", &["Enter passphrase", "Confirm passphrase"]),
    asks("passwd", &["passwd", "setpriv"], "setpriv --reuid=65534 --regid=65534 --clear-groups passwd", &["assword: "]),
    asks("systemd", &["systemd-ask-password"], "systemd-ask-password 'pw?' >/dev/null", &["pw?"]),
    asks("lftp", &["lftp"], "lftp -u user -e 'exit' 127.0.0.1", &["assword: "]),
    asks(
        "docker-like",
        &["python3"],
        "/usr/bin/python3 -c 'import getpass,sys; getpass.getpass(\"Password: \", sys.stderr)'",
        &["Password: "],
    ),
];
