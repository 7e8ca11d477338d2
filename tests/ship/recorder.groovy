// Runs a declarative Jenkinsfile against a recorder: its structure is checked, its steps are written down.
// Prints JSON: for each run {"steps": [[path, step, first argument], ...]} or {"refused": why}.
import groovy.json.JsonOutput
import org.codehaus.groovy.control.CompilerConfiguration

class Unknown extends RuntimeException { Unknown(String what) { super(what) } }

class Recorder {
    // What may stand in a section: https://www.jenkins.io/doc/book/pipeline/syntax/
    static final SECTIONS = [
        pipeline: ['agent', 'options', 'parameters', 'environment', 'stages', 'post', 'triggers', 'tools'],
        stages: ['stage'], stage: ['agent', 'environment', 'when', 'steps', 'stages', 'parallel', 'post', 'options', 'input'],
        parallel: ['stage'], post: ['always', 'success', 'failure', 'unstable', 'aborted', 'cleanup', 'changed', 'fixed'],
        when: ['branch', 'expression', 'not', 'allOf', 'anyOf', 'environment', 'tag', 'buildingTag'],
        agent: ['kubernetes', 'label', 'docker'], kubernetes: ['yamlFile', 'yaml', 'defaultContainer', 'inheritFrom'],
        options: ['timeout', 'disableConcurrentBuilds', 'buildDiscarder', 'logRotator', 'timestamps', 'retry'],
        parameters: ['string', 'booleanParam', 'choice', 'text', 'password']
    ]
    static final STEPS = ['sh', 'echo', 'container', 'archiveArtifacts', 'junit', 'withCredentials', 'usernamePassword', 'file',
        'string', 'input', 'timeout', 'retry', 'stash', 'unstash', 'cleanWs', 'withEnv', 'error', 'dir']
    static final IN_STEPS = ['steps', 'container', 'withCredentials', 'timeout', 'retry', 'withEnv', 'dir', 'always', 'success',
        'failure', 'unstable', 'aborted', 'cleanup', 'changed', 'fixed']

    List path = []
    List steps = []
    Map params
    Map env = [GIT_COMMIT: 'c0ffee', BRANCH_NAME: 'main']
    boolean skipping = false

    def getProperty(String name) {
        if (name in ['path', 'steps', 'params', 'env', 'skipping']) return this.@"$name"
        if (name == 'scm') return 'scm'
        throw new Unknown("property $name at ${path.join('/')}")
    }

    void setProperty(String name, value) {
        if (name == 'skipping') { this.@skipping = value; return }
        if (path && path[-1] == 'environment') { env[name] = value; return }
        throw new Unknown("assignment to $name at ${path.join('/')}")
    }

    def invokeMethod(String name, args) {
        def all = args as List
        def section = path ? path[-1].split(':')[0] : null
        def allowed = section == null ? ['pipeline'] : section in IN_STEPS ? STEPS : SECTIONS[section]
        if (allowed == null || !(name in allowed)) throw new Unknown("$name at ${path.join('/')}")
        def body = all && all[-1] instanceof Closure ? all[-1] : null
        def first = all && !(all[0] instanceof Closure) ? all[0] : null
        if (name == 'expression') { def holds = call(body); if (!holds) skipping = true; return holds }
        if (name == 'branch') { if (env.BRANCH_NAME != first) skipping = true; return }
        if (body == null) { steps << [path.join('/'), name, first instanceof Map ? first.toString() : first?.toString()]; return first }
        def before = skipping
        path << (name == 'stage' ? "stage:$first" as String : name)
        // The steps of a stage whose `when` does not hold are not run; what stands there is still looked at.
        if (!(skipping && name in ['steps', 'post'])) call(body) else { def kept = steps; steps = []; call(body); steps = kept }
        path.removeLast()
        if (name == 'stage') skipping = before
    }

    def call(Closure body) {
        body.delegate = this
        body.resolveStrategy = Closure.DELEGATE_ONLY
        body.call()
    }
}

def record = { File file, Map given ->
    def recorder = new Recorder(params: [ROLLBACK: 'none', PLACE: 'none', REGISTRY: 'r.example.com/g', BASE: 'base@sha256:0', MODEL_REVISION: 'abc'])
    recorder.env.BRANCH_NAME = given.BRANCH ?: 'main'
    recorder.params.putAll(given)
    def script = new GroovyShell(new Binding(), new CompilerConfiguration()).parse("return { ->\n" + file.text + "\n}")
    recorder.call(script.run())
    recorder.steps
}
// Arguments after the Jenkinsfile: runs, each NAME=value,NAME=value ('-' for none). One JVM for all: its start is slow.
def answers = args.drop(1).collect { run ->
    def given = run == '-' ? [:] : run.split(',').collectEntries { it.split('=', 2) as List }
    try { [steps: record(new File(given.remove('FILE') ?: args[0]), given)] }
    catch (Throwable problem) { [refused: problem.toString()] }
}
println JsonOutput.toJson(answers)
