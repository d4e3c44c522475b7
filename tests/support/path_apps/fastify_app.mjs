import fastify from 'fastify';

const app = fastify();
const handler = (name) => async (_request, reply) => reply.header('X-Handler', name).send(name);
app.all('/healthz', handler('health'));
app.all('/v1/agents', handler('agents'));
app.all('/v1/agents/*', handler('agents'));
app.all('/v1/chat::complete', handler('chat'));
app.all('/users/@me', handler('me'));
app.all('/admin', handler('admin'));
app.all('/admin/*', handler('admin'));
app.all('/*', handler('other'));
await app.listen({port: 0, host: '127.0.0.1'});
console.log(`listening on 127.0.0.1:${app.server.address().port}`);
