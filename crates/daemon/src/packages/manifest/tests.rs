use super::*;

const WHOLE: &str = r#"
[package]
name = "hello"
version = "1.2.0"
description = "Says hello"
license = "MIT"
requires = ">=0.1"
[[command]]
name = "hello"
path = "bin/hello"
completions = { bash = "c/hello.bash" }
args_hint = "[NAME]"
[extension]
run = { command = "bin/hello-ext", args = ["-x"] }
scope = "user"
protocol = 1
capabilities = { commands = true, events = ["command_end"], session = ["message", "append"], kv = true }
"#;

fn said(manifest: &str) -> String {
    Manifest::from_toml(manifest.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_whole_manifest_is_read_and_its_extension_kept() {
    let manifest = Manifest::from_toml(WHOLE.as_bytes()).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.to_string().as_str()), ("hello", "1.2.0"));
    assert_eq!(manifest.commands[0].completions.bash.as_deref(), Some("c/hello.bash"));
    let extension = manifest.extension.as_ref().unwrap();
    assert_eq!(extension.run.args, ["-x"]);
    assert_eq!(extension.capabilities["events"][0], "command_end");
    let named: Vec<&str> = manifest.named_files().into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(named, ["bin/hello", "c/hello.bash", "bin/hello-ext"]);
}

/// P-12, P-24: each with the words that say what is wrong.
#[test]
fn p12_an_invalid_manifest_is_refused_with_the_key_that_is_wrong() {
    let with = |from: &str, to: &str| said(&WHOLE.replacen(from, to, 1));
    assert!(said("").contains("package"));
    assert!(said("[package").contains("line 1"));
    let long = "n".repeat(65);
    for name in ["", "Hello", "../x", "a b", "all", "a\\u001b", &long] {
        assert!(with("\"hello\"", &format!("\"{name}\"")).contains("name"), "{name}");
    }
    for version in ["", "1", "1.2", "01.2.3", "1.2.3 ", "v1.2.3", "../1.2.3"] {
        assert!(with("1.2.0", version).contains("version"), "{version}");
    }
    for path in ["/bin/hello", "../hello", "bin/../hello", "bin//hello", "./hello", ""] {
        assert!(with("bin/hello", path).contains("the program of hello"), "{path}");
    }
    assert!(with("c/hello.bash", "/etc/passwd").contains("bash completion"));
    assert!(with("Says hello", "Says\\u001b[2J").contains("control"));
    assert!(with("name = \"hello\"\npath", "name = \"a/b\"\npath").contains("command.name"));
    assert!(with("args_hint", "arg_hint").contains("arg_hint"));
    assert!(with("protocol = 1", "protocol = 2").contains("protocol"));
    assert!(said("[package]\nname=\"a\"\nversion=\"1.0.0\"\n").contains("nothing would be installed"));
    assert!(Manifest::from_toml(b"\xff").unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn what_is_for_a_newer_shellkeep_says_so_before_its_new_keys_are_complained_about() {
    let newer = WHOLE.replace(">=0.1", ">=99").replace("args_hint", "new_key");
    assert!(said(&newer).contains("needs shellkeep >=99"), "{}", said(&newer));
    let other = WHOLE.replace("license = \"MIT\"", "platforms = [\"plan9-mips\"]");
    let elsewhere = Manifest::from_toml(other.as_bytes()).unwrap();
    assert!(elsewhere.fits_here().unwrap_err().to_string().contains("plan9-mips"));
    let here = Manifest { platforms: vec![platform()], ..elsewhere };
    assert!(here.fits_here().is_ok());
}

#[test]
fn jshells_manifest_has_a_command_for_each_program() {
    let json = br#"{"name":"ls","version":"0.1.0","description":"lists","files":["bin/ls","bin/ll","docs/ls.md"],"docs":["x"]}"#;
    let manifest = Manifest::from_jshell(json).unwrap();
    let names: Vec<&str> = manifest.commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(names, ["ls", "ll"]);
    for bad in [
        r#"{"name":"","version":"0.1.0","files":["bin/ls"]}"#,
        r#"{"name":"ls","version":"","files":["bin/ls"]}"#,
        r#"{"name":"ls","version":"0.1.0","files":[]}"#,
        r#"{"name":"ls","version":"0.1.0","files":["../../bin/ls"]}"#,
        r#"{"name":"ls","version":"0.1.0"}"#,
        "[]",
    ] {
        assert!(Manifest::from_jshell(bad.as_bytes()).is_err(), "{bad}");
    }
}
